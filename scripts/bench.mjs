/** `npm run bench`: installs and builds what is missing, then measures. Arguments are passed on to bench/run.mjs. */
import { build } from './build.mjs'
import { ensurePrograms, run } from './ensure.mjs'

if (!ensurePrograms('redis')) process.exit(2)
const code = await build()
process.exitCode = code === 0 ? await run(process.execPath, ['bench/run.mjs', ...process.argv.slice(2)]) : code
