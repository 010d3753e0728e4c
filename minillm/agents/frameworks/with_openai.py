"""The weather agent with OpenAI's SDK alone: the loop that every framework hides.

Endpoint: /v1/chat/completions. Particular: the model only asks for a call. This program makes it and sends the result
back as a message with the role `tool`; when the model asks for nothing more, that's the answer.
Needs: pip install openai
"""

import asyncio
import json
import os
from typing import Any

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
    client = AsyncOpenAI(base_url=BASE_URL, api_key=API_KEY)
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    function = {"name": "get_temperature", "description": get_temperature.__doc__, "parameters": parameters}
    messages: list[Any] = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": question}]
    request: dict[str, Any] = {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 64}
    request |= {"tools": [{"type": "function", "function": function}], "tool_choice": "required"}
    while True:
        completion = await client.chat.completions.create(**request)
        message = completion.choices[0].message
        messages.append(message)
        if not message.tool_calls:
            return str(message.content)
        for call in message.tool_calls:
            result = get_temperature(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        request["tool_choice"] = "none"


if __name__ == "__main__":
    print("answer:", asyncio.run(ask(QUESTION)))
