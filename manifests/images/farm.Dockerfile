# The farm: the API, the driver of hosts, and Ray's nodes, which import envfarm to play. From the wheel; the context is made by `build`.
ARG PYTHON_IMAGE=python:3.11-slim
FROM ${PYTHON_IMAGE}
COPY constraints.txt /tmp/
COPY *.whl /tmp/
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore -c /tmp/constraints.txt "$(ls /tmp/envfarm-*.whl)[all]" \
 && rm /tmp/*.whl /tmp/constraints.txt \
 && install -d -o 10001 -g 10001 -m 750 /var/lib/envfarm
ENV ENVFARM_HOME=/var/lib/envfarm HOME=/tmp PYTHONUNBUFFERED=1
USER 10001:10001
ENTRYPOINT ["envfarm"]
