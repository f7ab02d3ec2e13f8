/** docs/reference.md and the code say the same. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fastify } from 'fastify'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'
import { buildProgram } from '../src/cli/program.js'
import { dispatchMetrics } from '../src/dispatch/prom-dispatch-metrics.js'
import { CAUSES } from '../src/heartbeat/beat.js'
import { BeatBoard } from '../src/heartbeat/beat-board.js'
import { addEvents } from '../src/http/events.js'
import { addHistory } from '../src/http/history.js'
import { addRoutes } from '../src/http/routes.js'
import { configKeys } from '../src/platform/config-schema.js'
import { processRegistry } from '../src/platform/prom-metrics.js'
import { fleetKeys } from '../src/platform/redis-keys.js'
import { sentinelMetrics } from '../src/processes/prom-sentinel-metrics.js'
import { OUTCOMES } from '../src/watchdog/incident.js'
import { promWatchdogMetrics } from '../src/watchdog/prom-watchdog-metrics.js'

const root = resolve(import.meta.dirname, '..')
const reference = readFileSync(join(root, 'docs/reference.md'), 'utf8')
const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => readFileSync(join(root, 'src', name), 'utf8'))
  .join('\n')

/** The rows of a section's tables: the words in the first column. */
function firstColumn(section: string): string[] {
  const text = reference.split(`## ${section}\n`)[1]?.split('\n## ')[0] ?? ''
  return [...text.matchAll(/^\| `([^`]+)`/gm)].map((match) => match[1] ?? '')
}

/** What a module of ours exports, types included. */
function exportsOf(path: string): string[] {
  const tree = ts.createSourceFile(path, readFileSync(join(root, 'src', path), 'utf8'), ts.ScriptTarget.ESNext, true)
  return tree.statements.flatMap((statement) => {
    if (ts.isExportDeclaration(statement)) {
      const { exportClause } = statement
      if (!exportClause || !ts.isNamedExports(exportClause)) throw new Error(`${path}: names what it exports`)
      return exportClause.elements.map(({ name }) => name.text)
    }
    const isExport =
      ts.canHaveModifiers(statement) && ts.getModifiers(statement)?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword)
    if (!isExport) return []
    if (ts.isFunctionDeclaration(statement) && statement.name) return [statement.name.text]
    throw new Error(`${path}: exports what this test does not know: ${statement.getText().slice(0, 60)}`)
  })
}

/** The first column of one table, by its heading; several words may stand in a cell. */
function namesIn(heading: string): string[] {
  const rows = reference.split(`\n| ${heading} | `)[1]?.split('\n\n')[0]?.split('\n').slice(2) ?? []
  return rows.flatMap((row) => [...(row.split(' | ')[0] ?? '').matchAll(/`([A-Za-z]+)[^`]*`/g)].map(([, name]) => name ?? ''))
}

/** The members of interfaces, those of their bases left out. */
function membersOf(path: string, ...names: string[]): string[] {
  const tree = ts.createSourceFile(path, readFileSync(join(root, 'src', path), 'utf8'), ts.ScriptTarget.ESNext, true)
  const interfaces = tree.statements.filter(ts.isInterfaceDeclaration).filter(({ name }) => names.includes(name.text))
  expect(interfaces).toHaveLength(names.length)
  return interfaces.flatMap(({ members }) => members.map((member) => member.name?.getText() ?? ''))
}

const sorted = (names: readonly string[]) => [...names].sort()

describe('docs/reference.md', () => {
  it('lists every config key with its environment variables and default, and no other', () => {
    const rows = reference.split('\n').filter((line) => /^\| `[a-z]+\.[A-Za-z.]+` \|/.test(line))
    const documented = rows.map((row) => row.split(' | ').slice(0, 3).join(' | '))
    const real = configKeys().map(
      ({ key, env, default: value }) => `| \`${key}\` | ${env.map((name) => `\`${name}\``).join(' or ')} | ${value}`,
    )
    expect(documented).toEqual(real)
  })

  it('lists every command with its options, and no other', () => {
    const documented = firstColumn('Commands').map((usage) => ({
      name: usage.split(' ')[0],
      options: [...usage.matchAll(/--[a-z-]+/g)].map((match) => match[0]).sort(),
    }))
    const everywhere = new Set(['--config', '--redis', '--json', '--no-color', '--help'])
    const real = buildProgram().commands.map((command) => ({
      name: command.name(),
      options: command.options
        .filter((option) => !option.hidden)
        .map((option) => option.long ?? '')
        .filter((long) => !everywhere.has(long))
        .sort(),
    }))
    const byName = (a: { name: string | undefined }, b: { name: string | undefined }) =>
      String(a.name).localeCompare(String(b.name))
    expect(documented.sort(byName)).toEqual(real.sort(byName))
  })

  it('lists every cause and every outcome', () => {
    const words = firstColumn('Log lines')
    expect(words).toEqual([...CAUSES, ...OUTCOMES])
  })

  it('lists every metric that the code makes, and no other', () => {
    const documented = new Set(reference.match(/unstuck_[a-z_]+/g))
    const board = BeatBoard.create({ queues: [], loops: [] }, () => 0)
    const registries = [
      promWatchdogMetrics(processRegistry({ role: 'watchdog', version: '0' }), []).registry,
      dispatchMetrics(processRegistry({ role: 'supervisor', version: '0' }), board, []).registry,
      sentinelMetrics().registry,
    ]
    const names = registries.flatMap((registry) => registry.getMetricsAsArray().map((metric) => metric.name))
    const real = new Set(names.filter((name) => name.startsWith('unstuck_')))
    expect([...documented].sort()).toEqual([...real].sort())
  })

  it('lists every event that the code logs', () => {
    const real = new Set([...sources.matchAll(/event: '([a-z_]+)'/g)].map((match) => match[1]))
    for (const event of real) expect(reference, `event ${event}`).toMatch(new RegExp(`[\`"]${event}[\`"]`))
  })

  it('lists every route of the API, and no other', async () => {
    const real: string[] = []
    const server = fastify()
    server.addHook('onRoute', ({ method, url }) => {
      if (url.startsWith('/api/') && method !== 'HEAD') real.push(`${String(method)} ${url}`)
    })
    // Nothing is called: routes are only added.
    await addRoutes(server, {} as never)
    addEvents(server, {} as never)
    addHistory(server, {} as never)
    const documented = firstColumn('HTTP').filter((words) => /^[A-Z]+ \/api\//.test(words))
    expect(documented.sort()).toEqual(real.sort())
  })

  it.each([
    ['unstuck', 'index.ts'],
    ['unstuck/handler', 'handler.ts'],
    ['unstuck/watch', 'watch/index.ts'],
  ])('lists every export of %s, and no other', (entry, path) => {
    expect(sorted(namesIn(`of \`${entry}\``))).toEqual(sorted(exportsOf(path)))
  })

  it('lists every option of watchWorker, watchLoop and pulse, and all that they return', () => {
    const options = [
      ...membersOf('watch/node-membership.ts', 'ProcessOptions'),
      ...membersOf('watch/bullmq-worker-watch.ts', 'WatchOptions'),
      ...membersOf('watch/own-loops.ts', 'LoopOptions', 'PulseOptions'),
    ]
    expect(sorted(namesIn('of `options`'))).toEqual(sorted(options))
    const returned = [
      ...membersOf('watch/bullmq-worker-watch.ts', 'Watch'),
      ...membersOf('watch/own-loops.ts', 'Watched', 'WatchedLoop', 'Pulse'),
    ]
    expect(sorted(namesIn('of what they return'))).toEqual(sorted([...new Set(returned)]))
  })

  it("lists every key of the fleet's", () => {
    for (const key of Object.keys(fleetKeys('x'))) expect(reference).toMatch(new RegExp(`\`${key}[\`:]`))
  })

  it('every link in the docs leads somewhere', () => {
    const pagesOf = (folder: string) =>
      readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
        .filter((name) => name.endsWith('.md'))
        .map((name) => `${folder}/${name}`)
    const pages = ['README.md', 'CHANGELOG.md', ...pagesOf('docs'), ...pagesOf('examples')]
    for (const page of pages) {
      const text = readFileSync(join(root, page), 'utf8')
      for (const [, target = ''] of text.matchAll(/\]\((?!https?:|#)([^)#]+)/g)) {
        expect(() => readFileSync(resolve(root, page, '..', target)), `${page} → ${target}`).not.toThrow()
      }
    }
  })
})
