"""Asks as programs do that speak OpenAI's HTTP API, through its own client library."""

import base64
import http.client
import io
import json

import openai
from PIL import Image, ImageDraw


def picture(circles: int = 3, colour: str = "red", size=(640, 480)) -> bytes:
    """Circles in a row, as a JPEG file's bytes."""
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    radius = size[0] // 12
    for i in range(circles):
        x, y = int(size[0] * (i + 0.6) / (circles + 0.6)), size[1] // 2
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    out = io.BytesIO()
    image.save(out, "JPEG")
    return out.getvalue()


def shown(file: bytes, kind: str = "image/jpeg") -> dict:
    """A picture as a message has it."""
    url = f"data:{kind};base64," + base64.b64encode(file).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def asked(text: str, *files: bytes) -> dict:
    """A question, about pictures."""
    return {"role": "user", "content": [*map(shown, files), {"type": "text", "text": text}]}


def client(server, key: str = "none", **options) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, **options)


def post(server, body: dict, headers: dict | None = None, path: str = "/v1/chat/completions"):
    """Status, headers and body of the answer to a request by hand."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"} | (headers or {}))
    answer = connection.getresponse()
    return answer.status, answer.headers, json.loads(answer.read() or b"null")
