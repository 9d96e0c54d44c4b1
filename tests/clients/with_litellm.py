"""LiteLLM, asking about a picture: with_litellm.py URL PICTURE"""

import base64
import json
import os
import sys

# It would ask for today's prices.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm

url, picture = sys.argv[1:]
shown = "data:image/jpeg;base64," + base64.b64encode(open(picture, "rb").read()).decode()
content = [{"type": "image_url", "image_url": {"url": shown}}, {"type": "text", "text": "Describe the picture."}]
messages = [{"role": "user", "content": content}]
options = {"model": "openai/glimpse-demo", "api_base": f"{url}/v1", "api_key": "none", "temperature": 0}
answer = litellm.completion(messages=messages, **options).choices[0].message.content
chunks = litellm.completion(messages=messages, stream=True, **options)
pieces = [piece for chunk in chunks if (piece := chunk.choices[0].delta.content)]
messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": "How many circles are there?"}]
followed = litellm.completion(messages=messages, **options)
told = {
    "answer": answer,
    "pieces": pieces,
    "next": followed.choices[0].message.content,
    "cached": followed.usage.prompt_tokens_details.cached_tokens,
}
print(json.dumps(told))
