# From options to what the generator reads: the same keys in snake_case, and only those that somebody wrote,
# so that what is not written is decided in one place, and a bundled agent keeps what is not overridden.
{ lib }:

let
  defaultPriority = (lib.mkOptionDefault null).priority;

  snakeCase = lib.stringAsChars (
    char: if lib.toLower char == char then char else "_${lib.toLower char}"
  );

  # A table whose keys are options of ours; null is how an option says that it is not set.
  table =
    attrs:
    lib.concatMapAttrs (
      name: value: lib.optionalAttrs (value != null) { ${snakeCase name} = value; }
    ) attrs;

  # Values that hold such tables.
  values = {
    schedule = map table;
    retries = table;
    notify = table;
    when = table;
  };

  isWritten = option: option.highestPrio < defaultPriority;

  written =
    options: config:
    lib.concatMapAttrs (
      name: option:
      let
        value = config.${name};
        inner = written option value;
      in
      if lib.isOption option then
        lib.optionalAttrs (isWritten option && value != null) {
          ${snakeCase name} = (values.${name} or lib.id) value;
        }
      else
        lib.optionalAttrs (inner != { }) { ${snakeCase name} = inner; }
    ) options;

  searchPath = lib.concatMap (
    entry:
    if lib.isDerivation entry then
      [
        "${lib.getBin entry}/bin"
        "${lib.getBin entry}/sbin"
      ]
    else
      [ entry ]
  );
in
{
  inherit
    snakeCase
    table
    written
    searchPath
    ;
}
