// One side of a call between two pages of Stock Agent. Tidegate carries the offer, the answer and the candidates as
// `webrtc` messages; the sound goes from browser to browser.

const LIMIT_MS = 20_000;
const AGAIN_MS = 50;
const TONE_HZ = 880;
// Silence is below -90 dB. The resolution of the spectrum is 23 Hz.
const LOUD_DB = -50;
const NEAR_HZ = 50;

export class Phone {
  log = [];
  #candidates = [];

  /** Resolves once calls to this user arrive. */
  async connect(url, name, token) {
    this.ws = new WebSocket(`${url}/ws/${name}?token=${token}`);
    this.ws.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    await until(() => this.ws.readyState === WebSocket.OPEN, 'the socket did not open');
    this.#send({ type: 'subscribe', channel: 'webrtc' });
    await until(() => this.iceServers, () => `no answer to subscribe: ${JSON.stringify(this.log)}`);
    return this.iceServers;
  }

  /** Calls a user, who hears a tone. */
  async call(to) {
    this.#peer(to);
    const audio = new AudioContext();
    const tone = new OscillatorNode(audio, { frequency: TONE_HZ });
    const output = audio.createMediaStreamDestination();
    tone.connect(output);
    tone.start();
    await audio.resume();
    this.connection.addTrack(output.stream.getAudioTracks()[0], output.stream);
    await this.connection.setLocalDescription(await this.connection.createOffer());
    this.#signal(this.connection.localDescription);
  }

  /** Resolves to the state of the connection once it is the wanted one. */
  async state(wanted) {
    await until(() => this.connection?.connectionState === wanted, () => this.#problem(`is not ${wanted}`));
  }

  /** Resolves to who is heard, once the loudest frequency is that of the tone. */
  async heard() {
    const audio = new AudioContext();
    const analyser = new AnalyserNode(audio);
    audio.createMediaStreamSource(this.player.srcObject).connect(analyser);
    await audio.resume();
    const levels = new Float32Array(analyser.frequencyBinCount);
    let loudest, hz;
    await until(
      () => {
        analyser.getFloatFrequencyData(levels);
        loudest = Math.max(...levels);
        hz = (levels.indexOf(loudest) * audio.sampleRate) / analyser.fftSize;
        return loudest > LOUD_DB && Math.abs(hz - TONE_HZ) < NEAR_HZ;
      },
      () => this.#problem(`has no tone, but ${loudest} dB at ${hz} Hz`),
    );
    return { from: this.from, tracks: this.tracks };
  }

  /** Ends the call, for the other side too. */
  end() {
    this.#signal({ type: 'bye' });
    this.connection.close();
  }

  #send(message) {
    this.ws.send(JSON.stringify(message));
  }

  #signal(data) {
    this.#send({ type: 'webrtc', to: this.other, data });
  }

  #problem(what) {
    const { connectionState, iceConnectionState } = this.connection ?? {};
    return `the call ${what} (${connectionState}, ICE ${iceConnectionState}); messages: ${JSON.stringify(this.log)}`;
  }

  #peer(other) {
    this.other = other;
    this.tracks = 0;
    this.connection = new RTCPeerConnection({ iceServers: this.iceServers });
    this.connection.onicecandidate = ({ candidate }) => candidate && this.#signal({ candidate });
    this.connection.ontrack = ({ streams: [stream] }) => {
      this.tracks += 1;
      // Chromium decodes the sound of a connection only where an element plays it.
      this.player = Object.assign(new Audio(), { srcObject: stream });
      this.player.play();
    };
  }

  #receive(message) {
    this.log.push(message.data?.type ?? (message.data?.candidate ? 'candidate' : message));
    if (message.type === 'subscribed') this.iceServers = message.ice_servers;
    // Each message waits for those before it.
    if (message.type === 'webrtc') this.busy = Promise.resolve(this.busy).then(() => this.#signalled(message));
  }

  async #signalled({ from, data }) {
    if (data.type === 'bye') {
      this.connection.close();
      this.ended = true;
      return;
    }
    if (data.candidate) {
      // The other side may send candidates before its description.
      if (this.connection?.remoteDescription) await this.connection.addIceCandidate(data.candidate);
      else this.#candidates.push(data.candidate);
      return;
    }
    this.from = from;
    if (data.type === 'offer') this.#peer(from);
    await this.connection.setRemoteDescription(data);
    for (const candidate of this.#candidates.splice(0)) await this.connection.addIceCandidate(candidate);
    if (data.type === 'offer') {
      await this.connection.setLocalDescription(await this.connection.createAnswer());
      this.#signal(this.connection.localDescription);
    }
  }

  /** Resolves once the other side has ended the call. */
  async isOver() {
    await until(() => this.ended, () => this.#problem('did not end'));
  }
}

async function until(check, problem) {
  const deadline = performance.now() + LIMIT_MS;
  while (!(await check())) {
    if (performance.now() > deadline) throw new Error(typeof problem === 'string' ? problem : problem());
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}
