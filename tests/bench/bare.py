"""A Flask application with a view that reads a body and refuses it: what no answer to a wrong password can save."""

from flask import Flask, request

app = Flask(__name__)


@app.post("/deployment")
def refuse() -> tuple[str, int]:
    """Read the JSON of the body, and refuse it."""
    request.get_json(force=True)
    return "wrong or missing password\n", 403


@app.get("/healthz")
def healthz() -> str:
    """Say that it serves."""
    return "ok\n"
