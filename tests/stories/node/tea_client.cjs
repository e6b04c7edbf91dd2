// @alicloud/ecs20140526: typed requests, typed answers.
//
// tea_client.cjs ADDRESS KEY SECRET [ALGORITHM]; the algorithm `v2` makes it sign as version 1 does.
// SECURITY_TOKEN is that of a temporary key.
'use strict';

const ecs = require('@alicloud/ecs20140526');
const { $OpenApiUtil } = require('@alicloud/openapi-core');
const { cast } = require('@darabonba/typescript');
const { Refused, hold } = require('./conversation.cjs');

const [address, accessKeyId, accessKeySecret, signatureAlgorithm] = process.argv.slice(2);
const config = new $OpenApiUtil.Config({
  accessKeyId,
  accessKeySecret,
  regionId: 'cn-hangzhou',
  endpoint: address,
  protocol: 'HTTP',
  signatureAlgorithm,
  securityToken: process.env.SECURITY_TOKEN,
});
const client = new ecs.default(config);

hold(async (action, parameters) => {
  const request = cast(parameters, new ecs[`${action}Request`]({}));
  const method = action[0].toLowerCase() + action.slice(1);
  try {
    return (await client[method](request)).body.toMap();
  } catch (error) {
    if (!error.statusCode) {
      throw error;
    }
    throw new Refused(error.code, error.statusCode, error.message);
  }
});
