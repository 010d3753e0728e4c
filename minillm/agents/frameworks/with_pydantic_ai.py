"""The weather agent with PydanticAI.

Endpoint: /v1/chat/completions. Particular: arguments and answers are checked against types, and the model is asked anew
if they don't fit. Settings may depend on the step: `required` in the first, `none` after it.
Needs: pip install 'pydantic-ai-slim[openai]'
"""

import asyncio
import os

from pydantic_ai import Agent, ModelSettings, RunContext
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

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

    def settings(context: RunContext[None]) -> ModelSettings:
        return ModelSettings(tool_choice="required" if context.run_step == 1 else "none", temperature=0, max_tokens=64)

    model = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=BASE_URL, api_key=API_KEY))
    agent = Agent(model, instructions=INSTRUCTIONS, tools=[get_temperature], model_settings=settings)
    result = await agent.run(question)
    return result.output


if __name__ == "__main__":
    print("answer:", asyncio.run(ask(QUESTION)))
