# TRL on a CPU: Debian's PyTorch, and TRL of the Python registry. Built by tests/peers/get
FROM debian:trixie-slim
RUN apt-get update && apt-get install -y --no-install-recommends python3-torch python3-venv python3-pip && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv --system-site-packages /venv && /venv/bin/pip install -q --no-cache-dir 'trl==1.16.0' pydantic
