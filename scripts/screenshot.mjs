/** Makes docs/dashboard.png: the page while a real demonstration runs and its saboteurs are reported. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { build } from './build.mjs'
import { browserPath, ensurePrograms, refuse, root } from './ensure.mjs'

/** The curves need a past; the demonstration's own saboteurs are over by then. */
const HISTORY_MS = 90_000
/** Jobs beside those of the demonstration, so that there is always something to do. */
const FEED_MS = 2500
const FEED_JOBS = 330
const SABOTEURS = ['lost-reply', 'endless-loop']
const SIZE = { width: 1360, height: 1080 }

if (!ensurePrograms('redis', 'browser')) process.exit(2)
if ((await build()) !== 0) process.exit(1)
const { chromium } = await import('playwright-core')

const folder = mkdtempSync(join(tmpdir(), 'unstuck-screenshot-'))
const { REDIS_URL: _, UNSTUCK_REDIS_URL: __, ...env } = process.env
const up = spawn(process.execPath, [join(root, 'dist/cli/main.js'), 'up', '--demo', '--supervisors', '2', '--port', '0'], {
  cwd: folder,
  env: { ...env, UNSTUCK_LOG_FORMAT: 'json' },
  stdio: ['ignore', 'pipe', 'inherit'],
})
const ended = once(up, 'exit')

/** Where the page is, from the line that says so. */
async function address() {
  for await (const line of createInterface({ input: up.stdout })) {
    const found = /dashboard: (http:\/\/[^\s"]+)/.exec(line)
    if (found) return found[1]
  }
  return refuse('up --demo: ended without saying where its page is')
}

/** Two more that hang, for as long as the file is there. */
async function sabotage(url) {
  const hold = join(folder, 'hold')
  writeFileSync(hold, '')
  await add(
    url,
    'saboteurs',
    SABOTEURS.map((name) => ({ name, jobId: name, data: { hold } })),
  )
}

async function add(url, queue, jobs) {
  const answer = await fetch(`${url}/api/v1/queues/${queue}/jobs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jobs }),
  })
  if (!answer.ok) throw new Error(`${queue}: ${await answer.text()}`)
}

/** Real files to hash, now more and now fewer. */
async function feed(url, forMs) {
  const data = { path: join(root, 'package-lock.json') }
  for (let at = 0; at < forMs; at += FEED_MS) {
    const count = Math.round(FEED_JOBS * (1 + Math.sin(at / 9000)))
    if (count > 0)
      await add(
        url,
        'checksums',
        Array.from({ length: count }, () => ({ data })),
      )
    await new Promise((resolve) => setTimeout(resolve, FEED_MS))
  }
}

async function photograph(url) {
  const browser = await chromium.launch({ executablePath: browserPath(), args: ['--no-sandbox', '--disable-dev-shm-usage'] })
  try {
    const page = await browser.newPage({ viewport: SIZE, colorScheme: 'light' })
    await page.goto(url)
    await page.locator('.supervisor').first().waitFor()
    await feed(url, HISTORY_MS)
    await sabotage(url)
    await page
      .locator('.incident.tone-amber code')
      .nth(SABOTEURS.length - 1)
      .waitFor()
    await page.screenshot({ path: join(root, 'docs/dashboard.png') })
  } finally {
    await browser.close()
  }
}

try {
  const url = await address()
  // What is not read any more must not fill the pipe.
  up.stdout.resume()
  await photograph(url)
} finally {
  up.kill('SIGTERM')
  await ended
  rmSync(folder, { recursive: true, force: true })
}
process.stdout.write('docs/dashboard.png\n')
