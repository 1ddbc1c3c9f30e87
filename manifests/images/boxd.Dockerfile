# Only boxd, for the init container that copies it into a box.
FROM scratch
ARG TARGETARCH
COPY boxd-linux-${TARGETARCH} /boxd
ENTRYPOINT ["/boxd"]
