/** Keeps its thread, until the process ends, in one of the classes that a stack dump tells apart. */
import { readFileSync } from 'node:fs'

const kept = []

const wedges = {
  running() {
    let turns = 0
    while (turns >= 0) turns = (turns + 1) % 1000
  },
  awaiting: (_data, ctx) => ctx.step('wait', () => new Promise((resolve) => kept.push(resolve))),
  // Nobody writes into it: the open does not come back.
  native: ({ fifo }) => readFileSync(fifo),
}

export default function wedge(job, ctx) {
  return wedges[job.data.kind](job.data, ctx)
}
