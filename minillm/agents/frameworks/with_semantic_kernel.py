"""The weather agent with Semantic Kernel.

Endpoint: /v1/chat/completions. Particular: functions belong to plugins, so the model sees `Weather-get_temperature`.
A function behavior of `Required` makes one round of calls, then asks without tools.
Needs: pip install semantic-kernel
"""

import asyncio
import os

from openai import AsyncOpenAI
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai import FunctionChoiceBehavior
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion, OpenAIChatPromptExecutionSettings
from semantic_kernel.functions import KernelArguments, KernelPlugin, kernel_function

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
    service = OpenAIChatCompletion(MODEL, async_client=AsyncOpenAI(base_url=BASE_URL, api_key=API_KEY))
    settings = OpenAIChatPromptExecutionSettings(temperature=0, max_tokens=64)
    agent = ChatCompletionAgent(
        name="weather",
        instructions=INSTRUCTIONS,
        service=service,
        plugins=[KernelPlugin(name="Weather", functions=[kernel_function(get_temperature)])],
        function_choice_behavior=FunctionChoiceBehavior.Required(),
        arguments=KernelArguments(settings),
    )
    response = await agent.get_response(question)
    return str(response.content)


if __name__ == "__main__":
    print("answer:", asyncio.run(ask(QUESTION)))
