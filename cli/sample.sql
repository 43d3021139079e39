-- The sample database's tables: a selection of Grafana 12.4's, as its migrations make them on SQLite.
CREATE TABLE org (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, version INTEGER NOT NULL, name TEXT NOT NULL, created DATETIME NOT NULL, updated DATETIME NOT NULL);
CREATE TABLE dashboard (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, version INTEGER NOT NULL, slug TEXT NOT NULL, title TEXT NOT NULL, data TEXT NOT NULL,
  org_id INTEGER NOT NULL, created DATETIME NOT NULL, updated DATETIME NOT NULL);
CREATE TABLE data_keys (name TEXT PRIMARY KEY NOT NULL, active INTEGER NOT NULL, scope TEXT NOT NULL, provider TEXT NOT NULL, encrypted_data BLOB NOT NULL,
  created DATETIME NOT NULL, updated DATETIME NOT NULL, label TEXT NOT NULL DEFAULT '');
CREATE TABLE data_source (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, org_id INTEGER NOT NULL, version INTEGER NOT NULL, type TEXT NOT NULL, name TEXT NOT NULL,
  access TEXT NOT NULL, url TEXT NOT NULL, password TEXT NULL, user TEXT NULL, "database" TEXT NULL, basic_auth INTEGER NOT NULL, basic_auth_user TEXT NULL,
  basic_auth_password TEXT NULL, is_default INTEGER NOT NULL, json_data TEXT NULL, created DATETIME NOT NULL, updated DATETIME NOT NULL,
  with_credentials INTEGER NOT NULL DEFAULT 0, secure_json_data TEXT NULL, read_only INTEGER NULL, uid TEXT NOT NULL DEFAULT 0, is_prunable INTEGER NULL DEFAULT 0,
  api_version TEXT NULL);
CREATE TABLE secrets (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, org_id INTEGER NOT NULL, namespace TEXT NOT NULL, type TEXT NOT NULL, value TEXT NULL,
  created DATETIME NOT NULL, updated DATETIME NOT NULL);
CREATE TABLE user_auth (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, user_id INTEGER NOT NULL, auth_module TEXT NOT NULL, auth_id TEXT NOT NULL, created DATETIME NOT NULL,
  o_auth_access_token TEXT NULL, o_auth_refresh_token TEXT NULL, o_auth_token_type TEXT NULL, o_auth_expiry DATETIME NULL, o_auth_id_token TEXT NULL,
  external_uid TEXT NULL, user_uid TEXT NULL);
CREATE TABLE user_external_session (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, user_auth_id INTEGER NOT NULL, user_id INTEGER NOT NULL, auth_module TEXT NOT NULL,
  access_token TEXT NULL, id_token TEXT NULL, refresh_token TEXT NULL, session_id TEXT NULL, session_id_hash TEXT NULL, name_id TEXT NULL, name_id_hash TEXT NULL,
  expires_at DATETIME NULL, created_at DATETIME NOT NULL);
CREATE TABLE plugin_setting (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, org_id INTEGER NOT NULL DEFAULT 1, plugin_id TEXT NOT NULL, enabled INTEGER NOT NULL,
  pinned INTEGER NOT NULL, json_data TEXT NULL, secure_json_data TEXT NULL, created DATETIME NOT NULL, updated DATETIME NOT NULL, plugin_version TEXT NULL);
CREATE TABLE alert_configuration (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, alertmanager_configuration TEXT NOT NULL, configuration_version TEXT NOT NULL,
  created_at INTEGER NOT NULL, "default" INTEGER NOT NULL DEFAULT 0, org_id INTEGER NOT NULL DEFAULT 0, configuration_hash TEXT NOT NULL DEFAULT 'not-yet-calculated');
CREATE TABLE alert_configuration_history (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, org_id INTEGER NOT NULL DEFAULT 0, alertmanager_configuration TEXT NOT NULL,
  configuration_hash TEXT NOT NULL DEFAULT 'not-yet-calculated', configuration_version TEXT NOT NULL, created_at INTEGER NOT NULL, "default" INTEGER NOT NULL DEFAULT 0,
  last_applied INTEGER NOT NULL DEFAULT 0);
CREATE TABLE sso_setting (id TEXT PRIMARY KEY NOT NULL, provider TEXT NOT NULL, settings TEXT NOT NULL, created DATETIME NOT NULL, updated DATETIME NOT NULL,
  is_deleted INTEGER NOT NULL DEFAULT 0);
CREATE TABLE dashboard_snapshot (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, name TEXT NOT NULL, "key" TEXT NOT NULL, delete_key TEXT NOT NULL, org_id INTEGER NOT NULL,
  user_id INTEGER NOT NULL, external INTEGER NOT NULL, external_url TEXT NOT NULL, dashboard TEXT NOT NULL, expires DATETIME NOT NULL, created DATETIME NOT NULL,
  updated DATETIME NOT NULL, external_delete_url TEXT NULL, dashboard_encrypted BLOB NULL);
CREATE TABLE signing_key (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, key_id TEXT NOT NULL, private_key TEXT NOT NULL, added_at DATETIME NOT NULL,
  expires_at DATETIME NULL, alg TEXT NOT NULL);
