# Types of services.rota.*, as narrow as Nix can make them. The generator has the last word; what these
# catch is caught before anything is built.
{ lib }:

let
  inherit (lib) types;

  noun =
    description: type:
    type
    // {
      inherit description;
      descriptionClass = "noun";
    };

  matching = pattern: description: noun description (types.strMatching pattern);

  number = "[0-9]+([.][0-9]+)?";
  blank = "[ \t]*";
  timeUnit = "(usec|us|µs|msec|ms|seconds?|sec|s|minutes?|min|m|hours?|hr|h|days?|d|weeks?|w|months?|M|years?|y)";

  inStore = text: lib.hasPrefix builtins.storeDir (lib.removePrefix "-" text);
in
{
  agentName = matching "[a-z0-9][a-z0-9-]{0,62}" "name of an agent (lower-case letters, digits and -)";

  tag = matching "[a-z0-9][a-z0-9-]*" "word of lower-case letters, digits and -";

  userName = matching "[A-Za-z_][A-Za-z0-9_.-]{0,30}" "name of a user or group";

  line = matching "[^\n\r]*" "single-line string";

  # Strings only: a path literal would be copied to the store.
  absolutePath = matching "/[^\n\r]*" "absolute path, as a string";

  environmentFile =
    noun "absolute path not in the Nix store, as a string; with a leading - if the file may be absent"
      (types.addCheck (types.strMatching "-?/[^\n\r]*") (text: !inStore text));

  duration = matching "${blank}(infinity|(${number}${blank}${timeUnit}${blank})+)" ''time span such as "30s", "5min" or "1h 30min" (systemd.time(7))'';

  size = matching "infinity|${number}${blank}[BKMGTPE]?|([1-9]?[0-9]|100)%" ''size such as "512M" or "2G", or percentage of the machine's memory'';

  percent = matching "0*[1-9][0-9]{0,6}%" ''percentage of one processor, such as "50%"'';

  share = matching "0*[0-9]{1,7}%" ''percentage such as "90%"'';

  network = matching "any|localhost|link-local|multicast|[0-9A-Fa-f:.]+(/[0-9]{1,3})?" "address, prefix such as 10.0.0.0/8, or one of any, localhost, link-local, multicast";

  listenAddress = matching ''(127[.][0-9.]+|\[::1]):[1-9][0-9]{0,4}|(/[A-Za-z0-9_@+=:,.-]+)+[.]sock'' ''loopback address with a port such as "127.0.0.1:7682", or absolute path of a UNIX socket that ends in .sock'';

  happening = types.enum [
    "failure"
    "recovery"
    "success"
    "missed"
    "escalation"
  ];

  pattern = matching "[][a-z0-9*?!-]+" "name of an agent, perhaps with * and ?";

  quietHours = matching "([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]" ''span of the day such as "22:30-07:00"'';

  # Values of a [Service] key.
  unitValue = types.oneOf [
    types.bool
    types.int
    types.singleLineStr
    (types.listOf types.singleLineStr)
  ];
}
