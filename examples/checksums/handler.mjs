/** Hashes and compresses one file. The steps have names, so that a STUCK line could say in which of them a job hangs. */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'

const compress = promisify(gzip)

/** @type {import('unstuck').Handler<{ path: string }>} */
export default async function checksum(job, ctx) {
  const content = await readFile(job.data.path)
  const sha256 = await ctx.step('hash', () => createHash('sha256').update(content).digest('hex'))
  const packed = await ctx.step('compress', () => compress(content))
  return { sha256, bytes: content.length, packedBytes: packed.length }
}
