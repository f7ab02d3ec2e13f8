/** Hashes a text. */
import { createHash } from 'node:crypto'

/** @type {import('unstuck').Handler<{ text: string }>} */
export default async function checksum(job, ctx) {
  return ctx.step('hash', () => ({ sha256: createHash('sha256').update(job.data.text).digest('hex') }))
}
