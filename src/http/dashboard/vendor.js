/** The only place that knows which library draws the page. */
import htm from './vendor/htm.js'
import { h } from './vendor/preact.js'

export { useEffect, useMemo, useRef, useState } from './vendor/hooks.js'
export { Component, render } from './vendor/preact.js'

export const html = htm.bind(h)
