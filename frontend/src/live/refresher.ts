/** Time between two readings, so that a busy queue is not read for each of its changes. */
const PAUSE_MS = 300;

/** Repeats a reading while there are further requests for it, one reading after the other. */
export class Refresher {
  private isWanted = false;
  private isRunning = false;

  constructor(private readonly read: () => Promise<unknown>) {}

  /** Starts a reading, or a further one after the present one, which may have begun too early. */
  readonly request = (): void => {
    this.isWanted = true;
    if (!this.isRunning) void this.run();
  };

  private async run(): Promise<void> {
    this.isRunning = true;
    while (this.isWanted) {
      this.isWanted = false;
      await this.read().catch(() => undefined); // the queries show their errors
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
    this.isRunning = false;
  }
}
