# TRL on a CPU: Debian's PyTorch, and TRL of the Python registry. docker build -t envfarm-peers/trl -f tests/peers/trl.dockerfile tests/peers
FROM debian:trixie-slim
RUN apt-get update && apt-get install -y --no-install-recommends python3-torch python3-venv python3-pip && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv --system-site-packages /venv && /venv/bin/pip install -q --no-cache-dir 'trl==1.16.0' pydantic
