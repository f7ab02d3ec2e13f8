/** Blocks its thread's event loop without burning CPU, and says by the machine's monotonic clock when it began. */
export default function block(job, ctx) {
  ctx.log.info(`blocked ${process.hrtime.bigint()}`)
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, job.data.ms)
}
