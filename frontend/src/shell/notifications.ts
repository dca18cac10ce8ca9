/** Notifications of the system about the ends of jobs, for users who look elsewhere. */
import { useState } from "react";
import { recall, remember } from "./memory";

export type NotificationState = "on" | "off" | "blocked";

export function readNotifications(): NotificationState {
  if (!("Notification" in window) || Notification.permission === "denied") return "blocked";
  return Notification.permission === "granted" && recall<boolean>("notifications") === true ? "on" : "off";
}

export function useNotifications() {
  const [state, setState] = useState<NotificationState>(readNotifications);
  const toggle = async () => {
    if (state === "on") remember("notifications", false);
    else if ((await Notification.requestPermission()) === "granted") remember("notifications", true);
    setState(readNotifications());
  };
  return { state, toggle };
}

/** Shows a notification, unless the page is in view. A later one with the same id takes its place. */
export function notify(id: string, title: string, body: string, onClick: () => void): void {
  if (readNotifications() !== "on" || document.visibilityState === "visible") return;
  const shown = new Notification(title, { body, tag: id });
  shown.onclick = () => {
    window.focus();
    onClick();
    shown.close();
  };
}
