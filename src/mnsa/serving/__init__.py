"""A run behind HTTP: a web page and a REST interface. The one room that knows FastAPI and uvicorn."""
