"""The weather agent with SmolAgents.

Endpoint: /v1/chat/completions. Particular: the answer is a call, too, of a tool `final_answer`; so every request says
`tool_choice: required`, and a small model has to be told which one. There is no role `tool`: results go back as text.
Its other agent, CodeAgent, runs Python that the model writes.
Needs: pip install 'smolagents[openai]'
"""

import asyncio
import os

from smolagents import LogLevel, OpenAIModel, ToolCallingAgent, tool

BASE_URL = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
API_KEY = os.environ.get("OPENAI_API_KEY", "not-needed")
MODEL = os.environ.get("MINILLM_MODEL", "smollm2-135m")
INSTRUCTIONS = "You are a helpful assistant. Answer the question in one sentence with what the function returned."
QUESTION = "How warm is it in Oslo?"
TEMPERATURES = {"Oslo": 4, "Cairo": 31, "Lima": 19}


@tool
def get_temperature(city: str) -> str:
    """Tells how warm it is in a city now.

    Args:
        city: The name of the city.
    """
    result = f"{TEMPERATURES[city]} °C" if city in TEMPERATURES else f"No thermometer in {city}."
    print(f"get_temperature({city!r}) -> {result!r}")
    return result


async def ask(question: str) -> str:
    """Answers a question about temperatures, with the tool's help."""
    model = OpenAIModel(MODEL, api_base=BASE_URL, api_key=API_KEY, temperature=0, max_tokens=64)

    def insist_on(name: str) -> None:
        model.kwargs["tool_choice"] = {"type": "function", "function": {"name": name}}

    insist_on("get_temperature")
    agent = ToolCallingAgent(
        [get_temperature],
        model,
        instructions=INSTRUCTIONS,
        max_steps=3,
        verbosity_level=LogLevel.OFF,
        step_callbacks=[lambda step, agent: insist_on("final_answer")],
    )
    return str(await asyncio.to_thread(agent.run, question))


if __name__ == "__main__":
    print("answer:", asyncio.run(ask(QUESTION)))
