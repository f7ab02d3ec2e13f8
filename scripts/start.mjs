/** `npm start`: installs and builds what is missing, then runs everything on this machine with the demonstration. */
import { build } from './build.mjs'
import { ensurePrograms, run } from './ensure.mjs'

// Without one the last-resort Redis is tried, which says so itself.
if (!process.env.REDIS_URL && !process.env.UNSTUCK_REDIS_URL) ensurePrograms('redis')
const code = await build()
process.exitCode =
  code === 0 ? await run(process.execPath, ['dist/cli/main.js', 'up', '--demo', ...process.argv.slice(2)]) : code
