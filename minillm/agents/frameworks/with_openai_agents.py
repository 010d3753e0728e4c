"""The weather agent with the OpenAI Agents SDK.

Endpoint: /v1/responses. Particular: agents hand over to each other, with guardrails and sessions around them; the
runner sets a forced `tool_choice` back to auto after the call. Tracing would go to OpenAI, so it's off.
Needs: pip install openai-agents
"""

import asyncio
import os

from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI

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
    set_tracing_disabled(True)
    model = OpenAIResponsesModel(MODEL, AsyncOpenAI(base_url=BASE_URL, api_key=API_KEY))
    settings = ModelSettings(tool_choice="get_temperature", temperature=0, max_tokens=64)
    tools = [function_tool(get_temperature)]
    agent = Agent(name="weather", instructions=INSTRUCTIONS, model=model, model_settings=settings, tools=tools)
    result = await Runner.run(agent, question, max_turns=4)
    return result.final_output


if __name__ == "__main__":
    print("answer:", asyncio.run(ask(QUESTION)))
