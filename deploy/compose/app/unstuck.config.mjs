/**
 * What the containers of docker-compose.yml run. This folder is mounted at /app: put your own config and handlers in its
 * place, here or in another folder that UNSTUCK_APP names.
 *
 * `saboteurs` is fed by the demo profile only; real jobs may be silent for minutes.
 * @type {import('unstuck').ConfigInput}
 */
export default {
  queues: {
    checksums: { handler: './handlers/checksum.mjs', threads: 2 },
    saboteurs: { handler: './handlers/saboteur.mjs', threads: 2, silentAfterMs: 10_000 },
  },
}
