# The farm's image: the API, the driver of hosts, and Ray's nodes, which import envfarm to play. Built from the wheel; `build` makes the context.
ARG PYTHON_IMAGE=python:3.11-slim
FROM ${PYTHON_IMAGE}
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# Dependencies first: the next build reuses this layer.
COPY requirements.txt /tmp/
RUN pip install -r /tmp/requirements.txt
COPY *.whl /tmp/
RUN pip install --no-deps /tmp/envfarm-*.whl && pip check \
 && rm /tmp/*.whl /tmp/requirements.txt \
 && install -d -o 10001 -g 10001 -m 750 /var/lib/envfarm
ENV ENVFARM_HOME=/var/lib/envfarm HOME=/tmp PYTHONUNBUFFERED=1
USER 10001:10001
ENTRYPOINT ["envfarm"]
