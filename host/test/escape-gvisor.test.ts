import { describe, vi } from 'vitest';
import { gvisorProblem, openGvisorTestDriver } from './gvisor-test-driver.ts';
import { escapeSuite } from './hostile-suite.ts';

const problem = await gvisorProblem();
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

describe.skipIf(problem !== null)('with runsc', () => {
  escapeSuite({
    name: 'gvisor',
    open: openGvisorTestDriver,
    // It does not, but a capsule has the same rights in the kernel it has: what is refused elsewhere is refused here.
    sharesKernel: true,
    alsoRefusal:
      /Not a tty|Inappropriate ioctl|ot supported|No such file|Read-only|not permitted|denied|Input\/output error/,
    refusals: {
      // Its network does not send there, and says nothing.
      'reach the broadcast address': /Terminated/,
      // The host's refusal of a datagram is not passed on to who sent it: it gets no answer.
      'ask another name server by datagram': /temporarily unavailable/,
    },
    harmless: [
      // All of it is of a kernel that is this capsule's alone, where the host is nobody.
      'take priority over others',
      "change the mode of the host's devices",
      "give itself the host's devices",
      'turn on forwarding',
      'speak any netlink but routes, sockets and audit',
      'use clone3, whose flags no filter sees',
      'become exempt from the killer',
      // gVisor shows this of every process to root; there are no secrets in it.
      "read the agent's environment",
      "see the agent's memory map",
      "open the agent's namespaces",
      "see where the agent's socket leads",
      // gVisor does not shield a first process from its own: the capsule ends.
      'kill the agent',
    ],
  });
});
