"""Recipe to environment: Dockerfiles, Docker builds, local layers, checkouts and toolchains."""
