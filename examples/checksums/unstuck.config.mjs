/** @type {import('unstuck').ConfigInput} */
export default {
  queues: {
    checksums: { handler: new URL('./handler.mjs', import.meta.url), threads: 1 },
  },
}
