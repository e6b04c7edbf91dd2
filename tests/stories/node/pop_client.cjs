// @alicloud/pop-core: no types; by GET in the query or by POST as a form.
//
// pop_client.cjs ADDRESS KEY SECRET METHOD; SECURITY_TOKEN is that of a temporary key.
'use strict';

const { RPCClient } = require('@alicloud/pop-core');
const { Refused, hold } = require('./conversation.cjs');

const [address, accessKeyId, accessKeySecret, method] = process.argv.slice(2);
const client = new RPCClient({
  accessKeyId,
  accessKeySecret,
  endpoint: `http://${address}`,
  apiVersion: '2014-05-26',
  securityToken: process.env.SECURITY_TOKEN,
});

// It spells out lists, but not objects.
function spelled(parameters) {
  const entries = Object.entries(parameters).flatMap(([name, value]) => {
    const isObject = typeof value === 'object' && !Array.isArray(value);
    return isObject ? Object.entries(value).map(([inner, one]) => [`${name}.${inner}`, one]) : [[name, value]];
  });
  return Object.fromEntries(entries);
}

hold(async (action, parameters) => {
  try {
    return await client.request(action, spelled(parameters), { method });
  } catch (error) {
    if (!error.entry) {
      throw error;
    }
    throw new Refused(error.code, error.entry.response.statusCode, error.data.Message);
  }
});
