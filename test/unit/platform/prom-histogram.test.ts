import { Histogram, Registry } from 'prom-client'
import { describe, expect, it } from 'vitest'
import { HotHistogram } from '../../../src/platform/prom-histogram.js'

const BUCKETS = [0.1, 1, 10]

function setup(values = ['img']) {
  const registry = new Registry()
  const histogram = new HotHistogram(registry, 'x_seconds', 'How long.', 'queue', values, BUCKETS)
  return { registry, histogram, text: () => registry.metrics() }
}

describe('a hot histogram', () => {
  it('starts every series at 0', async () => {
    expect(await setup().text()).toBe(
      `# HELP x_seconds How long.
# TYPE x_seconds histogram
x_seconds_bucket{queue="img",le="0.1"} 0
x_seconds_bucket{queue="img",le="1"} 0
x_seconds_bucket{queue="img",le="10"} 0
x_seconds_bucket{queue="img",le="+Inf"} 0
x_seconds_sum{queue="img"} 0
x_seconds_count{queue="img"} 0
`,
    )
  })

  it('counts cumulatively, a value at a bound below it', async () => {
    const { histogram, text } = setup()
    for (const value of [0, 0.1, 0.5, 1, 2, 11]) histogram.observe('img', value)
    expect(await text()).toContain(`x_seconds_bucket{queue="img",le="0.1"} 2
x_seconds_bucket{queue="img",le="1"} 4
x_seconds_bucket{queue="img",le="10"} 5
x_seconds_bucket{queue="img",le="+Inf"} 6
x_seconds_sum{queue="img"} 14.6
x_seconds_count{queue="img"} 6
`)
  })

  it("reads like prom-client's own, to the letter", async () => {
    const { histogram, text } = setup(['img', 'mail "quoted"\n'])
    const registry = new Registry()
    const theirs = new Histogram({
      name: 'x_seconds',
      help: 'How long.',
      labelNames: ['queue'],
      buckets: BUCKETS,
      registers: [registry],
    })
    for (const queue of ['img', 'mail "quoted"\n']) theirs.zero({ queue })
    for (let value = 0.01; value < 50; value *= 1.7) {
      for (const queue of ['img', 'mail "quoted"\n']) {
        theirs.observe({ queue }, value)
        histogram.observe(queue, value)
      }
    }
    const sorted = (metrics: string) =>
      metrics
        .trim()
        .replaceAll(/le="([^"]*)",queue="((?:[^"\\]|\\.)*)"/g, 'queue="$2",le="$1"')
        .split('\n')
        .sort()
    expect(sorted(await text())).toEqual(sorted(await registry.metrics()))
  })

  it('ignores what has no series, and what is no number', async () => {
    const { histogram, text } = setup()
    const before = await text()
    histogram.observe('unknown', 1)
    histogram.observe('img', Number.NaN)
    expect(await text()).toBe(before)
  })

  it('starts again at 0 when the registry is reset', async () => {
    const { registry, histogram, text } = setup()
    const before = await text()
    histogram.observe('img', 1)
    registry.resetMetrics()
    expect(await text()).toBe(before)
  })
})
