/** Curves: small ones as SVG, since there may be hundreds of them; the large one of a queue with uPlot. */
import { duration, number } from './text.js'
import { memo } from './ui.js'
import uPlot from './vendor/uplot.js'
import { html, useEffect, useRef } from './vendor.js'

const WIDTH = 120
const HEIGHT = 26
const POINTS = 60

/** Fewer points, each the largest of what it stands for: a peak must not vanish. */
export function thinned(values, points = POINTS) {
  const step = Math.max(1, Math.ceil(values.length / points))
  const thin = []
  for (let at = 0; at < values.length; at += step) {
    const known = values.slice(at, at + step).filter((value) => value !== null && value !== undefined)
    thin.push(known.length > 0 ? Math.max(...known) : null)
  }
  return thin
}

/** @param {{values?: (number | null)[], top?: number, label: string, tone?: string}} props `top`: at least so high */
export const Sparkline = memo(({ values, top = 1, label, tone = '' }) => {
  if (!values || values.length < 2)
    return html`<span class="spark ${tone} empty" role="img" aria-label="${label}: no history yet"></span>`
  const thin = thinned(values)
  const ceiling = Math.max(top, ...thin.map((value) => value ?? 0))
  const x = (at) => ((at / (thin.length - 1)) * WIDTH).toFixed(1)
  const y = (value) => (HEIGHT - 1.5 - (value / ceiling) * (HEIGHT - 3)).toFixed(1)
  const points = thin.flatMap((value, at) => (value === null ? [] : [`${x(at)},${y(value)}`]))
  const first = thin.findIndex((value) => value !== null)
  if (first < 0) return html`<span class="spark ${tone} empty" role="img" aria-label="${label}: no history yet"></span>`
  return html`<svg class="spark ${tone}" viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img" aria-label=${label}>
    <polygon points="${x(first)},${HEIGHT} ${points.join(' ')} ${WIDTH},${HEIGHT}" />
    <polyline points=${points.join(' ')} />
  </svg>`
})

const SERIES = [
  ['waiting', 'Waiting', '--c-waiting'],
  ['active', 'Running', '--c-running'],
  ['delayed', 'Delayed', '--c-delayed'],
  ['exhausted', 'Exhausted', '--c-exhausted'],
]

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

function optionsFor(width) {
  const axis = { stroke: colour('--muted'), grid: { stroke: colour('--line'), width: 1 }, ticks: { show: false } }
  return {
    width,
    height: 220,
    cursor: { points: { size: 6 } },
    legend: { live: true },
    scales: { x: { time: true }, y: { range: (_plot, _low, high) => [0, Math.max(4, (high ?? 0) * 1.1)] } },
    axes: [
      // Whole minutes: of a short past the same minute would stand there several times.
      { ...axis, size: 30, values: '{HH}:{mm}', incrs: [60, 120, 300, 600] },
      {
        ...axis,
        size: 56,
        values: (_plot, ticks) => ticks.map(number),
        incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000, 100_000, 1_000_000],
      },
    ],
    series: [
      { label: 'Time', value: '{HH}:{mm}:{ss}' },
      ...SERIES.map(([, label, variable]) => ({ label, stroke: colour(variable), width: 2, points: { show: false } })),
    ],
  }
}

function dataOf({ times, queue }) {
  const seconds = times.map((time) => (typeof time === 'number' ? time : Date.parse(time)) / 1000)
  return [seconds, ...SERIES.map(([key]) => queue?.[key] ?? seconds.map(() => null))]
}

/** Depth of one queue over the last 15 minutes. */
export function DepthChart({ history, name }) {
  const holder = useRef(null)
  const plot = useRef(null)
  const queue = history?.queues.get(name)
  const times = history?.times ?? []
  useEffect(() => {
    const draw = () => {
      plot.current?.destroy()
      plot.current = new uPlot(optionsFor(holder.current.clientWidth), dataOf({ times, queue }), holder.current)
    }
    draw()
    const scheme = matchMedia('(prefers-color-scheme: dark)')
    scheme.addEventListener('change', draw)
    const onResize = new ResizeObserver(() => {
      const width = holder.current?.clientWidth
      if (width && plot.current && width !== plot.current.width) plot.current.setSize({ width, height: 220 })
    })
    onResize.observe(holder.current)
    return () => {
      scheme.removeEventListener('change', draw)
      onResize.disconnect()
      plot.current?.destroy()
      plot.current = null
    }
  }, [name])
  useEffect(() => {
    plot.current?.setData(dataOf({ times, queue }))
  }, [history, name])
  return html`<figure class="chart">
    <figcaption>Jobs over the last 15 minutes${oldestText(queue)}</figcaption>
    <div ref=${holder} aria-hidden="true"></div>
  </figure>`
}

function oldestText(queue) {
  const known = (queue?.oldestWaitingMs ?? []).filter((value) => value !== null && value !== undefined)
  return known.length > 0 && Math.max(...known) > 0 ? `; the longest wait was ${duration(Math.max(...known))}` : ''
}
