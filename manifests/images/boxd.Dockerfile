# boxd alone, for the init container that puts it into a box.
FROM scratch
ARG TARGETARCH
COPY boxd-linux-${TARGETARCH} /boxd
ENTRYPOINT ["/boxd"]
