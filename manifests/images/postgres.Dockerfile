# A PostgreSQL to try the farm with, if no official image is available. In production use a database of your own: overlays/production.
ARG DEBIAN_IMAGE=debian:trixie-slim
FROM ${DEBIAN_IMAGE}
RUN apt-get update -qq \
 && mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null \
 && rm -rf /var/lib/apt/lists/* \
 && ln -s /usr/lib/postgresql/*/bin /usr/local/pgsql-bin \
 && groupadd -g 10001 farm && useradd -u 10002 -g 10001 -M -d /tmp database
ENV PATH=/usr/local/pgsql-bin:$PATH PGDATA=/var/lib/postgresql/data/pgdata
COPY postgres-start /usr/local/bin/postgres-start
# PostgreSQL's fast shutdown. At SIGTERM it waits for its clients to leave, until it is killed and has to recover.
STOPSIGNAL SIGINT
USER 10002:10001
ENTRYPOINT ["postgres-start"]
