import { readdirSync, readFileSync } from 'node:fs'
import { basename, join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'

/** What each slice may import beside itself. Everything points towards the kernel. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  kernel: [],
  platform: ['kernel'],
  heartbeat: ['kernel', 'platform'],
  stackdump: ['kernel', 'platform', 'heartbeat'],
  launch: ['kernel', 'platform', 'heartbeat'],
  dispatch: ['kernel', 'platform', 'heartbeat', 'stackdump', 'launch'],
  recovery: ['kernel', 'platform', 'heartbeat', 'stackdump', 'launch', 'dispatch'],
  watchdog: ['kernel', 'platform', 'heartbeat', 'stackdump'],
  http: ['kernel', 'platform', 'heartbeat', 'stackdump', 'launch', 'dispatch', 'recovery', 'watchdog'],
  /** What watches other people's workers and loops, in their process. */
  watch: ['kernel', 'platform', 'heartbeat', 'stackdump', 'dispatch'],
  processes: ['kernel', 'platform', 'heartbeat', 'stackdump', 'launch', 'dispatch', 'recovery', 'watchdog', 'http', 'top'],
  cli: [
    'kernel',
    'platform',
    'heartbeat',
    'stackdump',
    'launch',
    'dispatch',
    'recovery',
    'watchdog',
    'http',
    'processes',
    'top',
  ],
  /** src/index.ts, src/handler.ts and src/dispatcher.ts: what a user imports. */
  top: ['kernel', 'platform', 'heartbeat', 'stackdump', 'launch', 'dispatch', 'recovery', 'watchdog', 'watch', 'http'],
}

/** A file that starts so talks to that technology; the others of its slice do not know it. */
const adapter = /^(bullmq|redis|piscina|git|child|pino|prom|otel|inspector|node)-/

/** Slices whose files are at the edge anyway. */
const edges = new Set(['platform', 'processes', 'cli', 'http', 'watch', 'top'])

/** Parts of Node that reach outside the program, and packages that do. */
const reachesOut =
  /^(node:(fs|net|http|https|dgram|tls|child_process|cluster|worker_threads|inspector|readline|dns)\b|ioredis|bullmq|piscina|pino|prom-client|fastify|commander|@opentelemetry)/

const MAX_LINES = 400
const LONG_LINES = 300

const root = fileURLToPath(new URL('../src', import.meta.url))

interface Source {
  /** Relative to src, with forward slashes. */
  readonly path: string
  readonly slice: string
  readonly isAdapter: boolean
  readonly text: string
  readonly tree: ts.SourceFile
  /** What it imports of ours, type-only imports included. */
  readonly imports: readonly string[]
  readonly packages: readonly string[]
}

function readSource(path: string): Source {
  const text = readFileSync(join(root, path), 'utf8')
  const names = ts.preProcessFile(text, true, true).importedFiles.map(({ fileName }) => fileName)
  const inner = names.filter((name) => name.startsWith('.'))
  return {
    path,
    slice: path.includes('/') ? (path.split('/')[0] ?? '') : 'top',
    isAdapter: adapter.test(basename(path)),
    text,
    tree: ts.createSourceFile(path, text, ts.ScriptTarget.ESNext, true),
    imports: inner.map((name) => posix.join(posix.dirname(path), name).replace(/\.js$/, '.ts')),
    packages: names.filter((name) => !name.startsWith('.')),
  }
}

const sources = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .map((path) => readSource(path.replaceAll('\\', '/')))
const byPath = new Map(sources.map((source) => [source.path, source]))

/** One line for each import that a rule refuses. */
function importsAgainst(rule: (from: Source, to: Source) => boolean): string[] {
  return sources.flatMap((from) =>
    from.imports.flatMap((path) => {
      const to = byPath.get(path)
      return to && rule(from, to) ? [`${from.path} imports ${to.path}`] : []
    }),
  )
}

/** The first cycle in a graph, as a path that ends where it began. */
function cycleIn(graph: ReadonlyMap<string, Iterable<string>>): string[] | undefined {
  const done = new Set<string>()
  const visit = (node: string, trail: readonly string[]): string[] | undefined => {
    if (trail.includes(node)) return [...trail.slice(trail.indexOf(node)), node]
    if (done.has(node)) return undefined
    for (const next of graph.get(node) ?? []) {
      const cycle = visit(next, [...trail, node])
      if (cycle) return cycle
    }
    done.add(node)
    return undefined
  }
  for (const node of graph.keys()) {
    const cycle = visit(node, [])
    if (cycle) return cycle
  }
  return undefined
}

function nodesOf(source: Source): ts.Node[] {
  const nodes: ts.Node[] = []
  const visit = (node: ts.Node) => {
    nodes.push(node)
    ts.forEachChild(node, visit)
  }
  visit(source.tree)
  return nodes
}

/** The text parts of string and template literals, imports left out. */
function literalsOf(source: Source): string[] {
  return nodesOf(source).flatMap((node) => {
    const isText =
      ts.isStringLiteralLike(node) || node.kind === ts.SyntaxKind.TemplateHead || ts.isTemplateMiddleOrTemplateTail(node)
    if (!isText || ts.isImportDeclaration(node.parent) || ts.isExportDeclaration(node.parent)) return []
    return 'text' in node && typeof node.text === 'string' ? [node.text] : []
  })
}

describe('the sources', () => {
  it('stand in the slices that are known, and import files that exist', () => {
    expect(sources.length).toBeGreaterThan(0)
    expect(sources.filter(({ slice }) => !(slice in mayImport)).map(({ path }) => path)).toEqual([])
    const missing = sources.flatMap(({ path, imports }) =>
      imports.filter((to) => !byPath.has(to)).map((to) => `${path} imports ${to}`),
    )
    expect(missing).toEqual([])
  })

  it('import in one direction', () => {
    const refused = importsAgainst((from, to) => from.slice !== to.slice && !mayImport[from.slice]?.includes(to.slice))
    expect(refused).toEqual([])
  })

  it('have no cycle between files, type-only imports included', () => {
    expect(cycleIn(new Map(sources.map(({ path, imports }) => [path, imports])))).toBeUndefined()
  })

  it('have no cycle between slices', () => {
    const graph = new Map<string, Set<string>>()
    for (const { slice, imports } of sources) {
      const targets = graph.get(slice) ?? new Set()
      for (const path of imports) {
        const target = byPath.get(path)?.slice
        if (target !== undefined && target !== slice) targets.add(target)
      }
      graph.set(slice, targets)
    }
    expect(cycleIn(graph)).toBeUndefined()
  })

  it('know no technology where their name does not say so', () => {
    const pure = sources.filter(({ slice, isAdapter }) => !isAdapter && !edges.has(slice))
    const refused = pure.flatMap(({ path, packages }) =>
      packages.filter((name) => reachesOut.test(name)).map((name) => `${path} imports ${name}`),
    )
    expect(refused).toEqual([])
  })

  it('never import an adapter from a file that is none; connections and key names of the platform are for all', () => {
    const refused = importsAgainst(
      (from, to) => !edges.has(from.slice) && !from.isAdapter && to.isAdapter && to.slice !== 'platform',
    )
    expect(refused).toEqual([])
  })

  it('spell Redis keys in one place only', () => {
    // A key is text around a colon: a prefix joined to a name that BullMQ or we give, in TypeScript or in Lua.
    const key =
      /^:(wait|active|delayed|prioritized|completed|failed|paused|meta|marker|events|stalled|limiter|repeat|lock|lease)\b|:lock$|\{unstuck\}|^bull:|:unstuck:|\.\.\s*['"]:[a-z]/
    const allowed = new Set(['platform/redis-keys.ts', 'platform/config-schema.ts'])
    const spelt = sources
      .filter(({ path }) => !allowed.has(path))
      .flatMap((source) =>
        literalsOf(source).flatMap((text) => (key.test(text) ? [`${source.path}: ${text.slice(0, 60)}`] : [])),
      )
    expect(spelt).toEqual([])
  })

  it('never switch the type checker off', () => {
    const refused = sources.flatMap((source) => {
      const anys = nodesOf(source).filter((node) => node.kind === ts.SyntaxKind.AnyKeyword)
      const comments = /@ts-(ignore|expect-error|nocheck)/.test(source.text) ? [`${source.path}: a @ts- comment`] : []
      return [...anys.map(() => `${source.path}: any`), ...comments]
    })
    expect(refused).toEqual([])
  })

  it(`stay below ${MAX_LINES} lines, and say so above ${LONG_LINES}`, () => {
    const lengths = sources.map(({ path, text }) => ({ path, lines: text.split('\n').length - 1 }))
    for (const { path, lines } of lengths) {
      if (lines > LONG_LINES && lines <= MAX_LINES) process.stderr.write(`long: src/${path} has ${lines} lines\n`)
    }
    expect(lengths.filter(({ lines }) => lines > MAX_LINES)).toEqual([])
  })
})

describe('the rules', () => {
  it('find a cycle, and none where there is none', () => {
    expect(
      cycleIn(
        new Map([
          ['a', ['b']],
          ['b', ['c']],
          ['c', ['a']],
        ]),
      ),
    ).toEqual(['a', 'b', 'c', 'a'])
    expect(
      cycleIn(
        new Map([
          ['a', ['b', 'c']],
          ['b', ['c']],
        ]),
      ),
    ).toBeUndefined()
  })

  it('see type-only imports and exports', () => {
    const text = `import type { A } from './a.js'\nexport { type B } from './b.js'\nconst c = await import('./c.js')\ntype D = import('./d.js').D`
    const found = ts.preProcessFile(text, true, true).importedFiles.map(({ fileName }) => fileName)
    expect(found).toEqual(expect.arrayContaining(['./a.js', './b.js', './c.js', './d.js']))
  })
})
