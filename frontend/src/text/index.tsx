/** The language of the page: chosen by the user, else the browser's. */
import { createContext, type ReactNode, useContext, useEffect, useState } from "react";
import { recall, remember } from "@/shell/memory";
import { en, type Text } from "./en";
import { zh } from "./zh";

export type { Text };

export const LANGUAGES = { en, zh } as const satisfies Record<string, Text>;
export type Language = keyof typeof LANGUAGES;

const Context = createContext<{ language: Language; choose: (language: Language) => void }>({
  language: "en",
  choose: () => undefined,
});

export function TextProvider({ children }: { children: ReactNode }) {
  const [language, setLanguage] = useState<Language>(firstLanguage);
  useEffect(() => {
    document.documentElement.lang = language;
  }, [language]);
  const choose = (next: Language) => {
    remember("language", next);
    setLanguage(next);
  };
  return <Context.Provider value={{ language, choose }}>{children}</Context.Provider>;
}

/** Returns the texts of the page in its present language. */
export function useText(): Text {
  return LANGUAGES[useContext(Context).language];
}

export function useLanguage() {
  return useContext(Context);
}

function firstLanguage(): Language {
  const wanted = recall<string>("language") ?? navigator.language.slice(0, 2);
  return wanted in LANGUAGES ? (wanted as Language) : "en";
}
