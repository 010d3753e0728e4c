"""The weather agent with LangGraph.

Endpoint: /v1/chat/completions. Particular: the loop is a graph that one draws, with a state that can be saved, resumed
and wound back at each node. Here: model -> tools -> model -> end.
Needs: pip install langgraph langchain-openai
"""

import asyncio
import os

from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

BASE_URL = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
API_KEY = os.environ.get("OPENAI_API_KEY", "not-needed")
MODEL = os.environ.get("MINILLM_MODEL", "smollm2-135m")
INSTRUCTIONS = "You are a helpful assistant. Answer the question in one sentence with what the function returned."
QUESTION = "How warm is it in Oslo?"
TEMPERATURES = {"Oslo": 4, "Cairo": 31, "Lima": 19}


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
    model = ChatOpenAI(base_url=BASE_URL, api_key=API_KEY, model=MODEL, temperature=0, max_tokens=64)

    async def call_model(state: MessagesState) -> MessagesState:
        choice = "get_temperature" if state["messages"][-1].type == "human" else "none"
        bound = model.bind_tools([get_temperature], tool_choice=choice, parallel_tool_calls=False)
        return {"messages": [await bound.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", call_model)
    graph.add_node("tools", ToolNode([get_temperature]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    result = await graph.compile().ainvoke({"messages": [("system", INSTRUCTIONS), ("user", question)]})
    return result["messages"][-1].content


if __name__ == "__main__":
    print("answer:", asyncio.run(ask(QUESTION)))
