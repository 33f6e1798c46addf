// Calls between two pages of Stock Agent in a real Chromium: Tidegate carries the messages that set up the call, and the
// sound goes from one page to the other. Each page has a socket to another node, if there is more than one.

/** The flags for a call on one machine: addresses of the loopback, no mDNS names for them, and sound without a click. */
export const FLAGS = [
  '--allow-loopback-in-peer-connection',
  '--disable-features=WebRtcHideLocalIpsWithMdns',
  '--autoplay-policy=no-user-gesture-required',
];

export const rows = {
  async 'webrtc: one page calls the other, which hears a tone'({ browser, origin, nodes, tag, token }) {
    const pages = [];
    const phone = async (name, node) => {
      const page = await browser.newPage();
      pages.push(page);
      await page.goto(`${origin}call.html`);
      await page.waitForFunction('window.phone');
      const servers = await page.evaluate((it) => window.phone.connect(...it), [node, name, await token(name)]);
      if (!Array.isArray(servers)) throw new Error(`ice_servers is ${JSON.stringify(servers)}, and not a list`);
      return {
        run: (method, ...options) => page.evaluate(([it, rest]) => window.phone[it](...rest), [method, options]),
      };
    };
    try {
      const [alice, bob] = [`alice-${tag}`, `bob-${tag}`];
      const caller = await phone(alice, nodes.at(0));
      const callee = await phone(bob, nodes.at(-1));
      await caller.run('call', bob);
      for (const it of [caller, callee]) await it.run('state', 'connected');
      const heard = await callee.run('heard');
      if (heard.from !== alice || heard.tracks !== 1)
        throw new Error(`expected one track from ${alice}, got ${JSON.stringify(heard)}`);
      await caller.run('end');
      await callee.run('isOver');
      return {};
    } finally {
      for (const page of pages) await page.close();
    }
  },
};
