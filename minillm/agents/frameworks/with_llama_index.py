"""The weather agent with LlamaIndex.

Endpoint: /v1/chat/completions, but only if told that this is a chat model that calls functions: /v1/completions
otherwise. Particular: agents are workflows of events; most people come for its retrieval. It streams.
Needs: pip install llama-index-core llama-index-llms-openai-like
"""

import asyncio
import os

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai_like import OpenAILike

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
    llm = OpenAILike(
        MODEL,
        api_base=BASE_URL,
        api_key=API_KEY,
        is_chat_model=True,
        is_function_calling_model=True,
        temperature=0,
        max_tokens=64,
    )
    agent = FunctionAgent(
        llm=llm, system_prompt=INSTRUCTIONS, tools=[get_temperature], initial_tool_choice="get_temperature"
    )
    result = await agent.run(question)
    return str(result)


if __name__ == "__main__":
    print("answer:", asyncio.run(ask(QUESTION)))
