/** `unstuck healthcheck` as containers call it: against servers that answer, say no, hang or are not there. */
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { cli, tempFolder } from '../support/cli.js'

async function setup() {
  const cwd = tempFolder()
  const run = (args: readonly string[], env: NodeJS.ProcessEnv = {}) => cli(['healthcheck', ...args], { cwd, env })
  /** A free port, which nothing listens on. */
  const nobody = await listening(() => undefined).then(({ port, close }) => close().then(() => port))
  return { cwd, run, nobody }
}

async function listening(listener: RequestListener) {
  const server = createServer(listener)
  await new Promise<void>((done) => {
    server.listen(0, '127.0.0.1', done)
  })
  const close = () =>
    new Promise<void>((done) => {
      server.close(() => done())
      server.closeAllConnections()
    })
  onTestFinished(close)
  return { port: String((server.address() as AddressInfo).port), close }
}

const saying =
  (status: number): RequestListener =>
  ({ url }, response) =>
    response.writeHead(url === '/livez' ? status : 404).end('{}')

describe('unstuck healthcheck', () => {
  it('exits with 0 when /livez says 200 at the port, and with 1 and a line that names it when it does not', async () => {
    const { run } = await setup()
    const well = await listening(saying(200))
    expect(await run(['--port', well.port])).toEqual({ code: 0, stdout: '', stderr: '' })
    const sick = await listening(saying(503))
    expect(await run(['--port', sick.port])).toMatchObject({
      code: 1,
      stderr: `unstuck: http://127.0.0.1:${sick.port}/livez: answered with 503\n`,
    })
  })

  it('exits with 1 when nothing listens, and within bounds when nothing comes', async () => {
    const { run, nobody } = await setup()
    expect(await run(['--port', nobody])).toMatchObject({ code: 1, stderr: expect.stringContaining('ECONNREFUSED') })
    const hanging = await listening(() => undefined)
    const { code, stderr } = await run(['--port', hanging.port])
    expect(code).toBe(1)
    expect(stderr).toContain('no answer')
  })

  it('without a port asks the watchdog’s, and the supervisor’s where nothing listens on that', async () => {
    const { run, nobody } = await setup()
    const supervisor = await listening(saying(200))
    const sickWatchdog = await listening(saying(503))
    const ports = (watchdog: string, other: string) => ({ UNSTUCK_PORT: watchdog, UNSTUCK_SUPERVISOR_PORT: other })
    expect((await run([], ports(nobody, supervisor.port))).code).toBe(0)
    expect((await run([], ports(nobody, nobody))).code).toBe(1)
    expect((await run([], ports(sickWatchdog.port, supervisor.port))).code).toBe(1)
  })

  it('reads no config when it is given a port: it says how the process is, whatever that lies in', async () => {
    const { run } = await setup()
    const well = await listening(saying(200))
    const env = { UNSTUCK_HOST: '0.0.0.0', UNSTUCK_PORT: 'nonsense' }
    expect((await run(['--port', well.port], env)).code).toBe(0)
    expect((await run([], env)).code).toBe(2)
    expect((await run(['--config', join('no', 'such.json')])).code).toBe(2)
  })

  it('prints JSON when asked to', async () => {
    const { run, nobody } = await setup()
    const well = await listening(saying(200))
    expect(JSON.parse((await run(['--port', well.port, '--json'])).stdout)).toEqual({ ok: true })
    const { code, stdout } = await run(['--port', nobody, '--json'])
    expect(code).toBe(1)
    expect(JSON.parse(stdout)).toEqual({ ok: false, problem: expect.stringContaining('no answer') })
  })
})
