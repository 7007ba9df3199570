# All four programs in one image: docker build -t authio-actions .
# Checked with hadolint by ops/test, which builds no image: nobody's tests need Docker.
# Which one runs is the command: actions-worker, actions-janitor, actions-console or actionsctl.
FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bins

FROM debian:bookworm-slim
# The roots with which the database's certificate and the operator's own hosts are checked.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/target/release/actions-worker /src/target/release/actions-janitor /src/target/release/actions-console /src/target/release/actionsctl /usr/bin/
# Nobody; it needs to write nowhere.
USER 65532:65532
STOPSIGNAL SIGTERM
CMD ["actions-worker"]
