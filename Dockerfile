# Tidegate in a container: one binary and the system libraries that it loads, nothing else, not as root.
#
#   docker build -t tidegate .
#   docker run --rm -p 8080:8080 -e TIDEGATE_NATS__URL=nats://nats.example:4222 tidegate

# The version of rust-toolchain.toml.
ARG RUST_VERSION=1.95.0

FROM rust:${RUST_VERSION}-bookworm AS build
WORKDIR /build

# The dependencies in a layer of their own: it is built again only when they change. Each crate of the workspace has its
# manifest here, and an empty library.
COPY Cargo.toml Cargo.lock ./
COPY crates/tidegate-bench/Cargo.toml crates/tidegate-bench/
COPY crates/tidegate-document/Cargo.toml crates/tidegate-document/
COPY crates/tidegate-protocol/Cargo.toml crates/tidegate-protocol/
COPY crates/tidegate-vocabulary/Cargo.toml crates/tidegate-vocabulary/
RUN mkdir src crates/tidegate-bench/src crates/tidegate-document/src crates/tidegate-protocol/src crates/tidegate-vocabulary/src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs crates/tidegate-bench/src/lib.rs crates/tidegate-document/src/lib.rs crates/tidegate-protocol/src/lib.rs crates/tidegate-vocabulary/src/lib.rs \
    && cargo build --release --locked \
    && rm -r src crates

COPY . .
# The copied files keep their times, which may be older than the layer above.
RUN touch src/main.rs src/lib.rs crates/*/src/lib.rs && cargo build --release --locked

# What the final image holds: the binary, the libraries that it names, certificates, a user, an order of name lookup.
RUN mkdir -p /image/etc/ssl/certs /image/tmp \
    && chmod 1777 /image/tmp \
    && cp target/release/tidegate /image/tidegate \
    && ldd /image/tidegate | grep -o '/[^ ]*' | xargs -I '{}' cp --parents --dereference '{}' /image \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && echo 'nonroot:x:65532:65532::/:/' > /image/etc/passwd \
    && echo 'nonroot:x:65532:' > /image/etc/group \
    && echo 'hosts: files dns' > /image/etc/nsswitch.conf

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Tidegate" \
      org.opencontainers.image.description="The WebSocket edge for NATS" \
      org.opencontainers.image.source="https://github.com/tidegate/tidegate" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image /
USER 65532:65532
# Inside a container loopback reaches nobody.
ENV TIDEGATE_HTTP__LISTEN=0.0.0.0:8080
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/tidegate"]
CMD ["serve"]
