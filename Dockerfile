# syntax=docker/dockerfile:1
# One image for every process: the command chooses (`supervisor`, `watchdog`, `status`, …).
#   docker build -t unstuck .                            jobs in threads
#   docker build -t unstuck:sessions --target sessions . git and tmux too, for queues with sessions
ARG NODE=24-bookworm-slim

FROM node:${NODE} AS build
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN --mount=type=cache,target=/root/.npm npm ci --ignore-scripts
COPY scripts/build.mjs scripts/ensure.mjs scripts/
COPY tsconfig.json ./
COPY src src
RUN node scripts/build.mjs && rm dist/.tsbuildinfo

# No install script runs: the one native part, of msgpackr, comes built. The compiler would come along as somebody's
# optional peer, and no type or source map is read at run time.
FROM node:${NODE} AS packages
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN --mount=type=cache,target=/root/.npm npm ci --omit=dev --ignore-scripts \
  && rm -rf node_modules/typescript \
  && find node_modules -type f \( -name '*.map' -o -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' \) -delete

FROM node:${NODE} AS base
LABEL org.opencontainers.image.title="unstuck" \
  org.opencontainers.image.description="BullMQ jobs in watched threads and sessions, and a watchdog that says what is stuck and why" \
  org.opencontainers.image.licenses="MIT"
# The probes and metrics of a supervisor tell no secret. A watchdog must be given a host and a token to be reached.
ENV NODE_ENV=production \
  UNSTUCK_LOG_FORMAT=json \
  UNSTUCK_SUPERVISOR_HOST=0.0.0.0 \
  UNSTUCK_RUNTIME_DIR=/var/lib/unstuck/run
COPY --from=packages /build/node_modules /opt/unstuck/node_modules
COPY --from=build /build/dist /opt/unstuck/dist
COPY package.json LICENSE /opt/unstuck/
COPY examples /opt/unstuck/examples
COPY --chmod=755 deploy/compose/with-token.sh /usr/local/bin/with-token
# The link in the root folder lets handlers anywhere `import 'unstuck'`. A volume takes owner and mode from these folders.
RUN ln -s ../../../opt/unstuck/dist/cli/main.js /usr/local/bin/unstuck \
  && mkdir -p /node_modules /app && ln -s /opt/unstuck /node_modules/unstuck \
  && install -d -o node -g node -m 700 /var/lib/unstuck /var/lib/unstuck/run /var/lib/unstuck/secrets
WORKDIR /app
EXPOSE 7373 7374
HEALTHCHECK --interval=15s --timeout=10s --start-period=30s --retries=3 CMD ["unstuck", "healthcheck"]

# Agents start programs that start programs; what is orphaned on the way needs somebody to reap it.
FROM base AS sessions
RUN apt-get update \
  && apt-get install -y --no-install-recommends ca-certificates git tini tmux \
  && rm -rf /var/lib/apt/lists/*
USER node
ENTRYPOINT ["tini", "-s", "--", "unstuck"]
CMD ["--help"]

FROM base AS unstuck
USER node
ENTRYPOINT ["unstuck"]
CMD ["--help"]
