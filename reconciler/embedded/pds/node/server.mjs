// A real PDS with a PLC directory of its own, both on 127.0.0.1 and nowhere else.
// In: the path of a JSON file with `packages`, `folder`, `port` and `environment`. Out: `folder/ready`, JSON with the directory's address.
import fs from 'node:fs'
import http from 'node:http'
import { createRequire } from 'node:module'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const given = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'))
const require = createRequire(path.join(given.packages, 'package.json'))
const { PlcServer, MockDatabase } = require('@did-plc/server')
const entry = path.join(given.packages, 'node_modules/@atproto/pds/dist/index.js')
const { PDS, envToCfg, envToSecrets, readEnv } = await import(pathToFileURL(entry).href)

const listening = (server) => new Promise((resolve, reject) => server.once('listening', resolve).once('error', reject))

const directory = PlcServer.create({ db: new MockDatabase(), port: 0 })
const plc = http.createServer(directory.app).listen(0, '127.0.0.1')
await listening(plc)
const plcUrl = `http://localhost:${plc.address().port}`

Object.assign(process.env, given.environment, { PDS_DID_PLC_URL: plcUrl })
const environment = readEnv()
const pds = await PDS.create(envToCfg(environment), envToSecrets(environment))
const listen = pds.app.listen.bind(pds.app)
pds.app.listen = (port) => {
  const server = listen(port, '127.0.0.1')
  server.once('error', (error) => { console.error(error); process.exit(1) })
  return server
}
await pds.start()
fs.writeFileSync(path.join(given.folder, 'ready.part'), JSON.stringify({ plc: plcUrl }))
fs.renameSync(path.join(given.folder, 'ready.part'), path.join(given.folder, 'ready'))
