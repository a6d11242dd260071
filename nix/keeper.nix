# services.rota.homeKeeper: the keys of [keeper], from a table that `make docs` makes of the generator's schema.
{ lib, rotaTypes }:

let
  inherit (lib) mkOption types;

  table = lib.importJSON ./home-keeper.json;

  plain = rotaTypes // {
    inherit (types)
      bool
      externalPath
      int
      number
      str
      ;
  };

  # A type is a name, or a table with one key that says what is made of others.
  typeOf =
    spec:
    if lib.isString spec then plain.${spec} else lib.head (lib.attrValues (lib.mapAttrs made spec));

  # What a value is of several types, if it is a table.
  recordOf = lib.findFirst (one: one ? record || one ? table) { };

  made =
    word: of:
    {
      enum = types.enum of;
      between = types.ints.between (lib.elemAt of 0) (lib.elemAt of 1);
      list = types.listOf (typeOf of);
      table = types.attrsOf (typeOf of);
      # A record's own options are to be found, and documented, although it may be a word instead.
      either = types.oneOf (map typeOf of) // {
        getSubOptions =
          loc: lib.optionalAttrs (recordOf of != { }) ((typeOf (recordOf of)).getSubOptions loc);
      };
      record = types.submodule { options = lib.mapAttrs (_: option) of; };
    }
    .${word};

  option =
    spec:
    if spec ? options then
      lib.mapAttrs (_: option) spec.options
    else
      mkOption (
        {
          type =
            if spec ? default && spec.default == null then
              types.nullOr (typeOf spec.type)
            else
              typeOf spec.type;
          inherit (spec) description example;
        }
        // lib.optionalAttrs (spec ? default) { inherit (spec) default; }
      );

  # A value as the generator reads it: keys of records in snake_case, and only those that somebody wrote.
  plainly =
    spec: value:
    if lib.isString spec then
      value
    else
      {
        enum = value;
        between = value;
        list = map (plainly spec.list) value;
        table = lib.mapAttrs (_: plainly spec.table) value;
        either = if lib.isAttrs value then plainly (recordOf spec.either) value else value;
        record = lib.concatMapAttrs (
          name: of: lib.optionalAttrs (value.${name} != null) { ${of.key} = plainly of.type value.${name}; }
        ) spec.record;
      }
      .${lib.head (lib.attrNames spec)};

  isWritten = option: option.highestPrio < (lib.mkOptionDefault null).priority;

  written =
    specs: options: config:
    lib.concatMapAttrs (
      name: spec:
      let
        inner = written spec.options options.${name} config.${name};
      in
      if spec ? options then
        lib.optionalAttrs (inner != { }) { ${spec.key} = inner; }
      else
        lib.optionalAttrs (isWritten options.${name} && config.${name} != null) {
          ${spec.key} = plainly spec.type config.${name};
        }
    ) specs;
in
{
  options = lib.mapAttrs (_: option) table;

  # What is handed to the generator.
  declaration = written table;
}
