"""The HTTP API: routes under /v1, health, readiness and metrics, in front of one `jobs.queue.JobQueue`.

`app.create_app(queue, settings)` gives the ASGI application, `run.serve` serves it; `infinitetalk.client` speaks to it.
"""
