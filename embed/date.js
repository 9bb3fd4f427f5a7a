// A date whose year may stay unsaid: day, month and year, carried by one hidden input as 1990-03-14 or --03-14.

export const date = ({ name, label, autocomplete }, { texts, locale }, value, more, { make, fault }) => {
  const [, year, month, day] = value?.match(/^(-|\d{4})-(\d\d)-(\d\d)$/) || [];
  const about = (part) => ({ "aria-label": texts[part], autocomplete: autocomplete && `bday-${part}` });
  const box = (part, longest, filled) =>
    make("input", { inputmode: "numeric", maxlength: longest, placeholder: texts[part], value: filled, ...about(part) });
  const months = Array.from({ length: 12 }, (_, n) => {
    const number = String(n + 1).padStart(2, "0");
    return make("option", { value: number, selected: number === month }, new Intl.DateTimeFormat(locale, { month: "long" }).format(new Date(2000, n)));
  });
  const parts = [
    box("day", 2, day),
    make("select", about("month"), make("option", { value: "" }, texts.month), ...months),
    box("year", 4, year?.replace("-", "")),
  ];
  parts[0].dataset.part = name;
  const kept = make("input", { type: "hidden", name, value });
  const row = make("div", { class: "date" }, ...parts);
  row.addEventListener("input", () => {
    const [d, m, y] = parts.map((input) => input.value.trim());
    kept.value = d || m || y ? `${y || "-"}-${m}-${d.padStart(2, "0")}` : "";
  });
  return make("fieldset", {}, make("legend", {}, label, more), row, kept, fault(name));
};
