import { measurePostgres } from './processes/postgres.mjs'
import { mkdtempSync, rmSync, chmodSync } from 'node:fs'
const workspace = mkdtempSync('/var/tmp/pgw-'); chmodSync(workspace, 0o755)
const r = await measurePostgres({ workspace, rounds: Number(process.argv[2] ?? 20) })
const show=(o)=>JSON.stringify(o,(k,v)=>typeof v==='number'?Math.round(v*100)/100:v)
console.log('cp', show(r.checkpoint)); console.log('rb', show(r.rollback))
rmSync(workspace,{recursive:true})
