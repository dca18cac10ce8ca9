import { useMemo } from "react";
import { useLanguage } from "@/text";

/** Returns a function that writes a time of the service in the user's language and time zone. */
export function useMoment(): (timestamp: string) => string {
  const { language } = useLanguage();
  return useMemo(() => {
    const format = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
    return (timestamp) => format.format(new Date(timestamp));
  }, [language]);
}
