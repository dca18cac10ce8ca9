/** The color theme. The script in index.html sets it before the first paint. */
import { useEffect, useState } from "react";
import { recall, remember } from "./memory";

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

export function useTheme(): [Theme, (theme: Theme) => void] {
  const [theme, setTheme] = useState<Theme>(() => {
    const chosen = recall<Theme>("theme");
    return chosen && THEMES.includes(chosen) ? chosen : "system";
  });
  useEffect(() => {
    const prefersDark = matchMedia("(prefers-color-scheme: dark)");
    const apply = () => {
      const dark = theme === "dark" || (theme === "system" && prefersDark.matches);
      document.documentElement.dataset.theme = dark ? "dark" : "light";
    };
    apply();
    prefersDark.addEventListener("change", apply);
    return () => prefersDark.removeEventListener("change", apply);
  }, [theme]);
  return [
    theme,
    (next) => {
      remember("theme", next === "system" ? null : next);
      setTheme(next);
    },
  ];
}
