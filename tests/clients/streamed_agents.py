"""The agents of minillm/agents/frameworks once more, streamed: `python streamed_agents.py langgraph`.

Prints the tool's line, then in how many pieces the framework saw the answer, then the answer. Where a framework has a
client for each endpoint, here is the one that isn't there.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import Any

from minillm.agents.frameworks.with_openai import API_KEY, BASE_URL, INSTRUCTIONS, MODEL, QUESTION, get_temperature


async def openai_agents() -> list[str]:
    from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
    from openai import AsyncOpenAI

    set_tracing_disabled(True)
    model = OpenAIChatCompletionsModel(MODEL, AsyncOpenAI(base_url=BASE_URL, api_key=API_KEY))
    settings = ModelSettings(
        **{"tool_choice": "required", "parallel_tool_calls": False, "temperature": 0, "max_tokens": 64},
        **{"metadata": {"lesson": "09"}, "store": False, "verbosity": "low", "include_usage": True},
    )
    tools = [function_tool(get_temperature)]
    agent = Agent(name="weather", instructions=INSTRUCTIONS, model=model, model_settings=settings, tools=tools)
    result = Runner.run_streamed(agent, QUESTION, max_turns=4)
    events = [event async for event in result.stream_events() if event.type == "raw_response_event"]
    assert result.context_wrapper.usage.output_tokens > 0
    return [event.data.delta for event in events if event.data.type == "response.output_text.delta"]


async def openai_agents_responses() -> list[str]:
    from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
    from openai import AsyncOpenAI

    set_tracing_disabled(True)
    model = OpenAIResponsesModel(MODEL, AsyncOpenAI(base_url=BASE_URL, api_key=API_KEY))
    settings = ModelSettings(tool_choice="required", temperature=0, max_tokens=64)
    tools = [function_tool(get_temperature)]
    agent = Agent(name="weather", instructions=INSTRUCTIONS, model=model, model_settings=settings, tools=tools)
    result = Runner.run_streamed(agent, QUESTION, max_turns=4)
    events = [event async for event in result.stream_events() if event.type == "raw_response_event"]
    assert result.context_wrapper.usage.output_tokens > 0
    return [event.data.delta for event in events if event.data.type == "response.output_text.delta"]


async def pydantic_ai() -> list[str]:
    from pydantic_ai import Agent, ModelSettings, RunContext
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    def settings(context: RunContext[None]) -> ModelSettings:
        choice = "required" if context.run_step == 1 else "none"
        return ModelSettings(tool_choice=choice, temperature=0, max_tokens=64, seed=1, stop_sequences=["\n\n\n"])

    model = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=BASE_URL, api_key=API_KEY))
    agent = Agent(model, instructions=INSTRUCTIONS, tools=[get_temperature], model_settings=settings)
    async with agent.run_stream(QUESTION) as result:
        pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
        assert result.usage.output_tokens > 0
        return pieces


async def semantic_kernel() -> list[str]:
    from openai import AsyncOpenAI
    from semantic_kernel.agents import ChatCompletionAgent, ChatHistoryAgentThread
    from semantic_kernel.connectors.ai import FunctionChoiceBehavior
    from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion, OpenAIChatPromptExecutionSettings
    from semantic_kernel.functions import KernelArguments, KernelPlugin, kernel_function

    client = AsyncOpenAI(base_url=BASE_URL, api_key=API_KEY)
    plugin = KernelPlugin(name="Weather", functions=[kernel_function(get_temperature)])
    thread = ChatHistoryAgentThread()
    texts: list[str] = []
    # A stream ends after a required call; the answer is another one's.
    for behavior in (FunctionChoiceBehavior.Required(), None):
        agent = ChatCompletionAgent(
            name="weather",
            instructions=INSTRUCTIONS,
            service=OpenAIChatCompletion(MODEL, async_client=client, instruction_role="developer"),
            plugins=[plugin] if behavior else None,
            function_choice_behavior=behavior,
            arguments=KernelArguments(OpenAIChatPromptExecutionSettings(temperature=0, max_tokens=64)),
        )
        messages = QUESTION if behavior else None
        texts += [str(item.content) async for item in agent.invoke_stream(messages, thread=thread)]
    return [text for text in texts if text]


async def autogen() -> list[str]:
    from autogen_agentchat.agents import AssistantAgent
    from autogen_agentchat.messages import ModelClientStreamingChunkEvent
    from autogen_core.models import ModelFamily, ModelInfo
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    info = ModelInfo(
        vision=False, function_calling=True, json_output=True, structured_output=True, family=ModelFamily.UNKNOWN
    )
    client = OpenAIChatCompletionClient(
        **{"model": MODEL, "base_url": BASE_URL, "api_key": API_KEY, "model_info": info},
        **{"temperature": 0, "max_tokens": 64, "stream_options": {"include_usage": True}},
    )
    client.create_stream = partial(client.create_stream, tool_choice="required")
    agent = AssistantAgent(
        "weather",
        client,
        system_message=INSTRUCTIONS,
        tools=[get_temperature],
        reflect_on_tool_use=True,
        model_client_stream=True,
    )
    events = [event async for event in agent.run_stream(task=QUESTION)]
    return [event.content for event in events if isinstance(event, ModelClientStreamingChunkEvent)]


async def langgraph() -> list[str]:
    from langchain_core.messages import AIMessageChunk
    from langchain_openai import ChatOpenAI
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode, tools_condition

    options = {"temperature": 0, "max_tokens": 64, "stream_usage": True}
    model = ChatOpenAI(base_url=BASE_URL, api_key=API_KEY, model=MODEL, **options)

    async def call_model(state: MessagesState) -> MessagesState:
        choice = "any" if state["messages"][-1].type == "human" else "none"
        bound = model.bind_tools([get_temperature], tool_choice=choice, strict=True)
        return {"messages": [await bound.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", call_model)
    graph.add_node("tools", ToolNode([get_temperature]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    messages = {"messages": [("system", INSTRUCTIONS), ("user", QUESTION)]}
    pieces = [piece async for piece, _ in graph.compile().astream(messages, stream_mode="messages")]
    return [piece.content for piece in pieces if isinstance(piece, AIMessageChunk) and piece.content]


async def smolagents() -> list[str]:
    from smolagents import ChatMessageStreamDelta, FinalAnswerStep, LogLevel, OpenAIModel, ToolCallingAgent, tool

    model = OpenAIModel(MODEL, api_base=BASE_URL, api_key=API_KEY, temperature=0, max_tokens=64)
    agent = ToolCallingAgent(
        [tool(get_temperature)],
        model,
        instructions=INSTRUCTIONS,
        max_steps=2,
        verbosity_level=LogLevel.OFF,
        stream_outputs=True,
        step_callbacks=[lambda step, agent: model.kwargs.update(tool_choice=named("final_answer"))],
    )
    model.kwargs["tool_choice"] = named("get_temperature")
    events = list(agent.run(QUESTION, stream=True))
    assert sum(isinstance(event, ChatMessageStreamDelta) for event in events) > 4
    return [str(event.output) for event in events if isinstance(event, FinalAnswerStep)]


def named(tool: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": tool}}


async def agent_framework() -> list[str]:
    from agent_framework import Agent
    from agent_framework.openai import OpenAIChatCompletionClient

    client = OpenAIChatCompletionClient(MODEL, base_url=BASE_URL, api_key=API_KEY)
    options = {"tool_choice": "required", "temperature": 0, "max_tokens": 64, "metadata": {"a": "b"}, "store": False}
    agent = Agent(client, INSTRUCTIONS, name="weather", tools=[get_temperature], default_options=options)
    return [update.text async for update in agent.run(QUESTION, stream=True) if update.text]


async def agent_framework_responses() -> list[str]:
    from agent_framework import Agent
    from agent_framework.openai import OpenAIChatClient

    client = OpenAIChatClient(MODEL, base_url=BASE_URL, api_key=API_KEY)
    options = {"tool_choice": "required", "temperature": 0, "max_tokens": 64}
    agent = Agent(client, INSTRUCTIONS, name="weather", tools=[get_temperature], default_options=options)
    stream = agent.run(QUESTION, stream=True)
    # The whole text comes once more, in place of the pieces.
    contents = [content async for update in stream for content in update.contents if content.type == "text"]
    pieces = [content.text for content in contents if content.merge_mode == "append" and content.text]
    assert "".join(pieces) == (await stream.get_final_response()).text
    return pieces


if __name__ == "__main__":
    pieces = asyncio.run(globals()[sys.argv[1]]())
    print("\npieces:", len(pieces))  # some frameworks leave the cursor in their own display
    print("answer:", "".join(pieces))
