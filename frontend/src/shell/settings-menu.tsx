import { Bell, BellOff, LogOut } from "lucide-react";
import type { ReactNode } from "react";
import { useSession, useSignOut } from "@/session/session";
import { LANGUAGES, type Language, useLanguage, useText } from "@/text";
import { Menu, MenuChoices, MenuItem, MenuSeparator } from "@/ui/menu";
import { useNotifications } from "./notifications";
import { THEMES, useTheme } from "./theme";

export function SettingsMenu({ trigger }: { trigger: ReactNode }) {
  const text = useText();
  const { language, choose } = useLanguage();
  const [theme, setTheme] = useTheme();
  const notifications = useNotifications();
  const { needsKey, owner } = useSession();
  const signOut = useSignOut();
  return (
    <Menu trigger={trigger}>
      <MenuChoices
        label={text.shell.theme}
        value={theme}
        onChange={setTheme}
        options={THEMES.map((value) => ({ value, label: text.shell.themes[value] }))}
      />
      <MenuSeparator />
      <MenuChoices
        label={text.shell.language}
        value={language}
        onChange={choose}
        options={(Object.keys(LANGUAGES) as Language[]).map((value) => ({
          value,
          label: LANGUAGES[value].language,
        }))}
      />
      <MenuSeparator />
      <MenuItem
        disabled={notifications.state === "blocked"}
        onSelect={(event) => {
          event.preventDefault();
          void notifications.toggle();
        }}
      >
        {notifications.state === "on" ? <Bell /> : <BellOff />}
        <span className="max-w-56">
          {notifications.state === "blocked" ? text.shell.notificationsBlocked : text.shell.notifications}
        </span>
        <span className="ml-auto text-xs text-muted">
          {notifications.state === "on" ? text.common.on : text.common.off}
        </span>
      </MenuItem>
      {needsKey && (
        <>
          <MenuSeparator />
          <MenuItem onSelect={() => signOut.mutate()}>
            <LogOut />
            {text.session.signOut}
            <span className="ml-auto max-w-40 truncate text-xs text-muted">{owner}</span>
          </MenuItem>
        </>
      )}
    </Menu>
  );
}
